"""Trainers' own interfaces, one file each."""
