"""What `python -m tfft.sweep` is made of.

- `space`: a recipe's parameters as Keras Tuner's, and its values as the recipe's
- `events`, `oracles`: Keras Tuner's oracles, made again from a log of all that they were asked and told
- `trial`: one training of a trial, in a process of its own or in this one; `watch`: what it tells meanwhile
- `driver`: trials one after the other, or several at a time; `remote`: chief and workers on several machines
- `pruning`: which trials are not worth their end
- `slots`: the cores and devices that trials at the same time get
- `folder`: the sweep's folder; `trials`: what is to be trained, and the record of what came of it
- `table`: what a person sees meanwhile
- `report`: the page afterwards, of `facts` (what is known of a sweep), `axes` and `charts` (where marks and lines are),
  `importance` (which parameter decided) and `cost`
"""
