"""Operations that upgrade services."""
