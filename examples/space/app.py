"""A Hugging Face Space: the live page of `policy-engine play` on its own sample.

For your own data, give `load_board` the path of a file in the Space and the folder of a tokenizer.
"""

from policy_engine import builtin
from policy_engine.chat.loading import load_tokenizer
from policy_engine.play.gradio_page import build, launch_options
from policy_engine.play.loaded_rows import load_board, sample_policy

board = load_board(str(builtin.SAMPLE), load_tokenizer("builtin"), limit=200, opening=sample_policy())
demo = build(board)

if __name__ == "__main__":
    demo.launch(**launch_options())
