package job_test

import (
	"os"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }

func onPostgres(t *testing.T) *world {
	t.Helper()
	db := fixture.PostgresStore(t, fixture.Postgres(t).Database(t), drover.Env{})
	return &world{T: t, db: db, ttl: time.Second, poll: 100 * time.Millisecond, real: true}
}
