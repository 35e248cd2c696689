"""Strings, lists and Jinja that remember where text came from.

In the examples of this folder `u` and `v` are the contents of two messages, `n` is a number and `t` a list of the first
one; ‹ › is around text of the first message, « » around the second's, ? ? around text of unknown owner. The rest is the
template's own. A test renders each of them.

    {{ 'He said: ' + u }}                     ->  He said: ‹Hi, Bob›
    {{ u.split(', ')[1]|upper }} and {{ v }}  ->  ‹BOB› and «Yes»

A value enters a template by `values`, its text is `text`, the origins are `origins`. `environment` runs the template
that `compile` rewrote; `claims` knows whose turn it writes; `filters`, `operators`, `markup`, `tojson` and `computed`
keep origins through what it does; `bounds`, `call_bounds` and `meter` limit what it spends.
"""
