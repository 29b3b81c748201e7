"""What planted_faults.py plants, and where."""
