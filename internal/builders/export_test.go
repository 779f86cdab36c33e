package builders

// Rank is rank when no builder was lost.
func Rank(all []Builder, key string) []Builder { return rank(all, key, nil) }
