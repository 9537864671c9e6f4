"""TensorRT with pycuda; `engine` holds the loader.

This imports nothing, so that the parts that need no GPU (`cache`, `precision`, `messages`) can be
used without TensorRT.
"""
