"""Headers of weights and arrays in GGUF, NumPy, HDF5 and IDX."""
