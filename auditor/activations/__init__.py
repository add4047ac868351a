"""Running a model and keeping what its layers did."""
