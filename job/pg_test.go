package job_test

import "testing"

func onPostgres(t *testing.T) *world {
	t.Skip("no PostgreSQL store yet")
	return nil
}
