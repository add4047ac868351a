"""A function of our own on untrusted bytes, in a child process that can do little harm."""
