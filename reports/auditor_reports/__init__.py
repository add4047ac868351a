"""AuditReport to html, markdown, json, sarif, junit and annotations."""
