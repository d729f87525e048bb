package csapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/limits"
	"github.com/drover-cloud/drover/job"
)

// Config of a Face. Registry, Jobs and Keys are required.
type Config struct {
	Env               drover.Env
	Registry          *dispatch.Registry
	Jobs              *job.Manager
	Keys              Keys
	Nodes             Nodes         // names the management servers of jobs; nil = none are shown
	Hold              time.Duration // how long an unfinished result is waited for; 0 = not at all
	MaxHolds          int           // at once; default 4096
	EnforceTimestamps bool          // signature version 3, expires at most 15 min ahead, POST for changes

	Sessions Sessions                     // nil = login is refused
	Rate     *limits.Buckets              // of a key's requests; nil = none
	Refused  *limits.Failures             // failed authentications of an address; nil = none
	Address  func(r *http.Request) string // of the client; nil = of the connection
}

// Nodes knows the management server of a node.
type Nodes interface {
	ManagementServer(ctx context.Context, node string) (id, name string)
}

// Face serves /client/api.
type Face struct {
	cfg   Config
	env   drover.Env
	decoy []byte
	holds *holds
	// logins are failed ones of a user from an address.
	logins *limits.Failures

	once  sync.Once
	known map[string]dispatch.CommandInfo // by command
}

// New makes the face and registers its own commands: queryAsyncJobResult, listAsyncJobs and listApis.
func New(cfg Config) (*Face, error) {
	if cfg.Registry == nil || cfg.Jobs == nil || cfg.Keys == nil {
		return nil, fmt.Errorf("csapi: %w: Registry, Jobs and Keys are required", drover.ErrConfig)
	}
	if cfg.MaxHolds == 0 {
		cfg.MaxHolds = 4096
	}
	f := &Face{cfg: cfg, env: cfg.Env.Defaults(), decoy: newDecoy()}
	f.logins = limits.NewFailures(f.env.Clock, 5, 5*time.Minute)
	f.holds = newHolds(f.env, cfg.Jobs, cfg.MaxHolds)
	f.register()
	return f, nil
}

// Drain makes every result that is waited for be answered now, and later ones at once.
func (f *Face) Drain() { f.holds.drain() }

// Holds is how many results are waited for.
func (f *Face) Holds() int { return f.holds.waiting() }

// Reopen is the end of Drain.
func (f *Face) Reopen() { f.holds.reopen() }

// commands are all by name; it seals the registry.
func (f *Face) commands() map[string]dispatch.CommandInfo {
	f.once.Do(func() {
		f.known = map[string]dispatch.CommandInfo{}
		for _, c := range f.cfg.Registry.Catalog(context.Background(), map[string]string{"roles": "admin"}) {
			f.known[c.Name] = c
		}
	})
	return f.known
}

// ServeHTTP answers one request.
func (f *Face) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := f.env.Clock.Now()
	ctx, traceID := Traced(r)
	w.Header().Set("X-Trace-Id", traceID)
	q, err := parse(w, r)
	command := q.get("command")
	var caller any
	var answer any
	if err == nil {
		caller, answer, err = f.serve(ctx, r, q)
	}
	if err == nil {
		answer, err = f.held(ctx, caller, answer)
	}
	status := http.StatusOK
	if err != nil {
		body := f.fail(err, IsAdmin(caller), traceID)
		status = body.ErrorCode
		w.Header().Set("X-Description", header(body.ErrorText))
		retryAfter(w, err)
		answer = body
	}
	cookies(w, r, answer)
	write(w, status, f.envelopeKey(command, status), answer)
	f.log(ctx, r, command, status, began, err)
}

// serve runs the command; a panic is an internal error of this request only.
func (f *Face) serve(ctx context.Context, r *http.Request, q *request) (caller, answer any, err error) {
	defer func() {
		if v := recover(); v != nil {
			f.env.Logger.ErrorContext(ctx, "csapi: panic", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			answer, err = nil, dispatch.Errorf(dispatch.Internal, "internal error")
		}
	}()
	name := q.get("command")
	who := sender{address: f.address(r)}
	if c, err := r.Cookie(sessionCookie); err == nil {
		who.session = c.Value
	}
	ctx = context.WithValue(ctx, senderKey{}, who)
	if caller, err = f.admit(ctx, r, q, who); err != nil {
		return caller, nil, err
	}
	info := f.commands()[name]
	switch {
	case name == "":
		return caller, nil, dispatch.Errorf(dispatch.UnknownCommand, "parameter command is missing")
	case info.Mode == "" || len(info.Roles) > 0 && !IsAdmin(caller): // one that is not for the caller is not there
		return caller, nil, dispatch.Errorf(dispatch.UnknownCommand, "the given command %s does not exist or is not available to you", cut(name))
	}
	async := strings.HasPrefix(info.Mode, "async")
	if f.cfg.EnforceTimestamps && changes(info) && r.Method != http.MethodPost {
		return caller, nil, &dispatch.Error{Code: errMethod.Code, Text: "commands that change something need POST"}
	}
	c := q.command(caller)
	if async && q.has("customjobid") {
		if c.JobID = strings.ToLower(q.get("customjobid")); !uuid.MatchString(c.JobID) {
			return caller, nil, BadParam("customjobid", dispatch.BadType, c.JobID, "a UUID")
		}
	}
	answer, err = f.cfg.Registry.Dispatch(ctx, c)
	if err != nil {
		return caller, nil, err
	}
	return caller, shape(info.Mode, answer), nil
}

// changes tells whether the command does more than read.
func changes(c dispatch.CommandInfo) bool {
	return strings.HasPrefix(c.Mode, "async") || c.Mode == "sync" && c.Name != "queryAsyncJobResult" && c.Name != "listCapabilities" && c.Name != "readyForShutdown"
}

// shape is what goes into the envelope.
func shape(mode string, answer any) any {
	if a, ok := answer.(dispatch.Accepted); ok {
		out := map[string]string{"jobid": a.JobID}
		if mode == "async-create" {
			out["id"] = a.Entity
		}
		return out
	}
	if list, ok := page(answer); ok {
		return list
	}
	return answer
}

// IsAdmin tells whether a caller may read details of failures, and what belongs to others.
func IsAdmin(caller any) bool {
	id, ok := caller.(interface{ Identity() map[string]string })
	return ok && strings.Contains(","+id.Identity()["roles"]+",", ",admin,")
}

func retryAfter(w http.ResponseWriter, err error) {
	var e *dispatch.Error
	switch {
	case dispatch.CodeOf(err) == dispatch.Draining:
		w.Header().Set("Retry-After", "5")
	case errors.As(err, &e) && e.RetryAfter > 0:
		w.Header().Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
}

// log writes the line of a request: never its parameters.
func (f *Face) log(ctx context.Context, r *http.Request, command string, status int, began time.Time, err error) {
	level := slog.LevelInfo
	if code := dispatch.CodeOf(err); code == dispatch.Internal && !errors.Is(err, context.Canceled) {
		level = slog.LevelError
	}
	if !f.env.Logger.Enabled(ctx, level) {
		return
	}
	if f.commands()[command].Mode == "" {
		command = "other"
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("face", "cloudstack"), slog.String("command", command), slog.Int("code", status),
		slog.Float64("ms", float64(f.env.Clock.Now().Sub(began).Microseconds())/1000),
		slog.String("trace", trace.SpanContextFromContext(ctx).TraceID().String()),
	}
	if level == slog.LevelError {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	f.env.Logger.LogAttrs(ctx, level, "request", attrs...)
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Traced continues the caller's trace, or begins one, and gives its id.
func Traced(r *http.Request) (context.Context, string) {
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		var tid trace.TraceID
		var sid trace.SpanID
		_, _ = rand.Read(tid[:]) // never fails
		_, _ = rand.Read(sid[:])
		sc = trace.NewSpanContext(trace.SpanContextConfig{TraceID: tid, SpanID: sid})
		ctx = trace.ContextWithSpanContext(ctx, sc)
	}
	return ctx, sc.TraceID().String()
}
