"""Refinement of a person's parameters against images, with Gaussians bound to the body. Importing it loads no torch."""
