package lease

// NewTrusting makes a session that trusts itself for its whole TTL: the mutant that the margin is there for.
func NewTrusting(cfg Config) (*Session, error) {
	s, err := New(cfg)
	if err == nil {
		s.cfg.Margin = 0
	}
	return s, err
}
