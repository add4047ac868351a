"""What pickles would do if they were opened, from their opcodes; none of them runs."""
