"""Trainers and foreign configurations, one file each."""
