"""Operations on users and tokens."""
