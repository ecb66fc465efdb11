"""The product's main job on a real control plane, told as a story of a few minutes.

`python -m rig.demo` builds a cloud of 10,000 GPUs, lets four companies use it, cheats, stops the
operator and starts it again. What it says at the end is counted from the API server and its audit
log: nothing is believed because the operator says so, except what the live table shows meanwhile.
"""
