"""Operations on backups."""
