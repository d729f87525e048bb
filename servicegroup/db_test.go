package servicegroup_test

import (
	"os"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/servicegroup/memory"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/store/sqlite"
	"github.com/drover-cloud/drover/testkit/drivertest"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }

func TestConformance(t *testing.T) {
	t.Run("servicegroup-44 memory", func(t *testing.T) {
		drivertest.Membership(t, func(testing.TB) drivertest.MembershipServer {
			d := memory.New()
			return drivertest.MembershipServer{Open: func(testing.TB) servicegroup.Driver { return d }}
		})
	})
	t.Run("servicegroup-44 sqlite", func(t *testing.T) {
		drivertest.Membership(t, func(t testing.TB) drivertest.MembershipServer {
			path := testkit.SQLiteFile(t)
			open := func(t testing.TB) servicegroup.Driver {
				s := sqlite.New(testkit.OpenSQLite(t, path), sqlite.Config{Prefix: "pre_"})
				if err := s.Migrate(t.Context()); err != nil {
					t.Fatal(err)
				}
				return s.Members()
			}
			d := open(t)
			return drivertest.MembershipServer{Open: func(testing.TB) servicegroup.Driver { return d }}
		})
	})
	t.Run("servicegroup-44 postgres", func(t *testing.T) {
		drivertest.Membership(t, postgresServer)
	})
}

// postgresServer is a fresh database behind a proxy, each driver with a pool of its own.
func postgresServer(t testing.TB) drivertest.MembershipServer {
	server := testkit.Postgres(t)
	proxy, dsn := server.Proxied(t, server.Database(t))
	return drivertest.MembershipServer{
		Open: func(t testing.TB) servicegroup.Driver { return postgresMembers(t, dsn).Members() },
		Down: func(testing.TB) { proxy.CutRequests(0); proxy.Reset() },
		Hang: func(testing.TB) { proxy.BlackHole() },
		Back: func(testing.TB) { proxy.Heal() },
	}
}

func postgresMembers(t testing.TB, dsn string) *postgres.Store {
	t.Helper()
	s := postgres.New(testkit.OpenPostgres(t, dsn, 6), postgres.Config{Schema: "ops", Env: drover.Env{}})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

const soon = 5 * time.Second // for what a real server does

var _ = soon
