"""PEAR: one vision transformer regresses EHM-s from one person crop."""
