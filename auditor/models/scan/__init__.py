"""What is in model files of any format, decided from their bytes; nothing of them is executed."""
