"""Masks as HTML: a page in one file (`page`), and its pieces, which the live page takes too.

Markup is written by hand with the standard library's `escape`: there are few elements, and everything that comes from
data or policies goes through `escape.escaped`.
"""
