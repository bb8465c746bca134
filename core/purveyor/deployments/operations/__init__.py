"""Operations on deployments."""
