"""What a ResourceQuota counts: pure functions that admission and the controller share."""
