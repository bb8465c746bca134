"""Operations that begin and end archiving."""
