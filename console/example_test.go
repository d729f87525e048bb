package console_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/memory"
)

// The console behind a prefix, with the host's own authentication; who is no operator only looks.
func Example() {
	env := drover.Env{Logger: slog.New(slog.DiscardHandler)}
	jobs, err := job.New(job.Config{Env: env, DB: &memory.Store{}})
	if err != nil {
		panic(err)
	}
	page, err := console.New(console.Config{
		Env: env, Title: "my cloud", Jobs: jobs,
		Auth: func(r *http.Request) (console.Principal, error) {
			user, password, ok := r.BasicAuth()
			if !ok || password != "open sesame" { // compare in constant time, and with a hash
				return console.Principal{}, console.ErrUnauthenticated
			}
			return console.Principal{Name: user, ReadOnly: user != "operator"}, nil
		},
	})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", page)) // and page.Run in the host's Group, for live updates

	for _, user := range []string{"", "guest", "operator"} {
		r := httptest.NewRequest(http.MethodGet, "/ops/jobs", nil)
		if user != "" {
			r.SetBasicAuth(user, "open sesame")
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Printf("%q %d\n", user, w.Code)
	}
	// Output:
	// "" 401
	// "guest" 200
	// "operator" 200
}
