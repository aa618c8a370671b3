"""What each command of `imos` takes, does and says."""
