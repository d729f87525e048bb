package agent

// TokenAgain reads a token and writes it.
func TokenAgain(s string) (string, error) {
	t, err := parseToken(s)
	return t.String(), err
}
