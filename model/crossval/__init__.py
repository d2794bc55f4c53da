"""What a trained network says of patients that it has not seen: their original files, asked as in a run."""
