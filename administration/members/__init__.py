"""The pages for members at /my/: what a virtual key has left and has used, for the people who call with it."""
