package native

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover/dispatch"
)

const maxWait = 60 * time.Second

// command finds what the path names: a command, or name@version.
func (f *Face) command(r *http.Request) (info dispatch.CommandInfo, c *dispatch.Command) {
	name, version, _ := strings.Cut(r.PathValue("name"), "@")
	return f.commands()[r.PathValue("name")], &dispatch.Command{Name: name, Version: version, Caller: CallerOf(r.Context()), Strict: true}
}

// get answers a list command by its query.
func (f *Face) get(w http.ResponseWriter, r *http.Request) error {
	info, c := f.command(r)
	if info.Name != "" && info.Mode != "list" {
		return wrongMethod(w, http.MethodPost)
	}
	var err error
	if c.Params, err = queryParams(r.URL.Query()); err != nil {
		return err
	}
	return f.run(w, r, c)
}

// post runs any command by its body.
func (f *Face) post(w http.ResponseWriter, r *http.Request) error {
	info, c := f.command(r)
	var err error
	if c.Params, err = bodyParams(w, r, info); err != nil {
		return err
	}
	if info.Async {
		if c.Idem, err = idempotencyKey(r); err != nil {
			return err
		}
	}
	return f.run(w, r, c)
}

func (f *Face) run(w http.ResponseWriter, r *http.Request, c *dispatch.Command) error {
	answer, err := f.cfg.Registry.Dispatch(r.Context(), c)
	if err != nil {
		return err
	}
	if a, async := answer.(dispatch.Accepted); async {
		return f.accepted(w, r, a)
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// idempotencyKey is 1 to 255 printable ASCII characters, or none.
func idempotencyKey(r *http.Request) (string, error) {
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) == 0 {
		return "", nil
	}
	key := keys[0]
	bad := len(keys) > 1 || key == "" || len(key) > 255
	for i := range len(key) {
		bad = bad || key[i] < 0x20 || key[i] > 0x7e
	}
	if bad {
		return "", dispatch.Errorf(dispatch.Invalid, "Idempotency-Key: want once 1 to 255 printable ASCII characters")
	}
	return key, nil
}

// accepted answers with the job: 202, or 200 if it has ended within the time that the client prefers to wait.
func (f *Face) accepted(w http.ResponseWriter, r *http.Request, a dispatch.Accepted) error {
	h := w.Header()
	h.Set("Location", "/v1/jobs/"+a.JobID)
	if a.Replayed {
		h.Set("Idempotency-Replayed", "true")
	}
	status := http.StatusAccepted
	if wait := preferredWait(r); wait > 0 && f.ended(r.Context(), a.JobID, wait) {
		status = http.StatusOK
		h.Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
	}
	j, etag, err := f.job(r, a.JobID)
	if err != nil {
		return err
	}
	if a.Entity != "" {
		j["entity"], _ = json.Marshal(a.Entity) // a string always encodes
	}
	if etag != "" {
		h.Set("ETag", etag)
	}
	writeJSON(w, status, j)
	return nil
}

// preferredWait is that of Prefer: wait=N (RFC 7240), at most a minute; 0 = none.
func preferredWait(r *http.Request) time.Duration {
	for _, line := range r.Header.Values("Prefer") {
		for p := range strings.SplitSeq(line, ",") {
			text, is := strings.CutPrefix(strings.ToLower(strings.TrimSpace(p)), "wait=")
			if n, err := strconv.ParseUint(strings.Trim(text, `"`), 10, 31); is && err == nil {
				return min(time.Duration(n)*time.Second, maxWait)
			}
		}
	}
	return 0
}

// ended waits for the end of a job, as long as the client does and this node is not drained.
func (f *Face) ended(ctx context.Context, id string, wait time.Duration) bool {
	select {
	case f.waits <- struct{}{}:
		defer func() { <-f.waits }()
	default:
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	drained := f.drained()
	f.env.Go("native/wait/"+id, func() {
		select {
		case <-drained:
			cancel()
		case <-ctx.Done():
		}
	})
	j, err := f.cfg.Jobs.Wait(ctx, id)
	return err == nil && j.State.Final()
}

// job is the job as the operations API shows it, so that it looks the same wherever it is read.
func (f *Face) job(r *http.Request, id string) (j map[string]json.RawMessage, etag string, err error) {
	get, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), http.MethodGet, "/v1/jobs/"+id, nil)
	if err != nil {
		return nil, "", err
	}
	get.RemoteAddr, get.Host = r.RemoteAddr, r.Host
	var rec recorder
	f.cfg.Operations.API().ServeHTTP(&rec, get)
	if rec.status != http.StatusOK {
		return nil, "", dispatch.Errorf(dispatch.Internal, "native: job %s: status %d", id, rec.status)
	}
	if err := json.Unmarshal(rec.body, &j); err != nil {
		return nil, "", errors.Join(dispatch.Errorf(dispatch.Internal, "native: job %s", id), err)
	}
	return j, rec.Header().Get("ETag"), nil
}

// recorder keeps an answer.
type recorder struct {
	status int
	body   []byte
	header http.Header
}

func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	r.body = append(r.body, b...)
	return len(b), nil
}
