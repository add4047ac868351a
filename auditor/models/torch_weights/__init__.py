"""Reading weights out of torch's pickled files without running a pickle."""
