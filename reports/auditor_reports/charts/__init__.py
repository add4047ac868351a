"""Figures as inline SVG, pictures and shaded tables."""
