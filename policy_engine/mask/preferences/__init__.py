"""Preferences masked: both answers by one policy, behind a prompt of the same ids.

    prompt            <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎      prompt_ids
    chosen            Hello<|im_end|>⏎                                        chosen_ids, chosen_labels
    rejected          What?<|im_end|>⏎                                        rejected_ids, rejected_labels

An answer of several turns carries loss where the policy says: results of tools and users in it do not.
"""
