"""Measurements, as ratios in one run; run by script/bench, never as tests."""
