"""The forward pass of Llama-family models on 8-bit weights: compiled for this processor, one function a pass.

`vectors` has the few loops that are written for the processor's vector unit, `forward_pass` the arithmetic of a pass in
their terms, `weights` the packed weights, `llama` what the engine sees.
"""
