"""TensorRT with pycuda; `engine` holds the loader.

Nothing is imported here, so that the parts that need no GPU (`cache`, `precision`, `messages`)
can be used without TensorRT.
"""
