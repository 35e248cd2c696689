"""The model: fields, positions, regions and outcomes that a policy tells apart.

The modules show one example, the policy

    train assistant where message.quality > 3
    mask last assistant

* `field_values`: `message.quality` is missing, or a number above 3. `assignments` are the sets of such cases.
* `positions`: a turn is an assistant's or not, and an assistant follows or not. `places` numbers these four points.
* `regions`: rule 1 decides point 0, where no assistant follows; rule 0 decides point 1 if the quality is above 3.
* `outcomes`: so the weight is 1 there, and 0 everywhere else.
"""
