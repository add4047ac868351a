"""CycloneDX ML-BOM with model cards and declarations."""
