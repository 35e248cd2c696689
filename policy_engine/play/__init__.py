"""The live page of `policy-engine play`: a policy is edited, and the tokens follow.

`loaded_rows` reads, renders and tokenizes the rows once. `editions` decides them for a policy text, `choice` picks the
rows to show, and `panes` and `side_by_side` write HTML: all of it pure, from state to markup, and tested without a
browser. `gradio_page` puts it on Gradio and is the only file that imports it.

    loaded_rows.load_board(…) → Board
    editions.Editions(board).draft("train assistant") → Draft: findings, and an Edition of decided rows
    panes.rows_pane(edition, choice) → HTML
"""
