"""The shape of data, found in its rows.

detect       rows to a format, with a sentence on what was seen
row_shape    one row to its kind and columns
unused       columns that look like a part of the conversation, and that the format does not read
no_shape     the error and the help where no row has a known shape, or the one that was asked for
"""
