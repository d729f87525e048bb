package native

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
)

// problem is a failure by RFC 9457.
type problem struct {
	Type         string       `json:"type"`
	Title        string       `json:"title"`
	Status       int          `json:"status"`
	Detail       string       `json:"detail,omitempty"`
	Instance     string       `json:"instance,omitempty"`
	Code         string       `json:"code"`
	Retryable    bool         `json:"retryable"`
	RetryAfterMS int64        `json:"retry_after_ms,omitempty"`
	TraceID      string       `json:"trace_id,omitempty"`
	Errors       []fieldError `json:"errors,omitempty"`
}

type fieldError struct {
	Parameter string `json:"parameter"`
	Reason    string `json:"reason"`
	Value     string `json:"value,omitempty"`
	Limit     string `json:"limit,omitempty"`
}

// Codes that only this face has, with their status.
var ownCodes = map[dispatch.Code]int{
	"method": http.StatusMethodNotAllowed, "media-type": http.StatusUnsupportedMediaType,
}

func wrongMethod(w http.ResponseWriter, allow string) error {
	w.Header().Set("Allow", allow)
	return &dispatch.Error{Code: "method", Text: "allowed: " + allow}
}

const drainRetry = 5 * time.Second

// problemOf makes any error a problem.
func problemOf(err error, admin bool) problem {
	e := dispatch.Public(err, admin)
	info := e.Info()
	p := problem{
		Type: "urn:drover:problem:" + string(e.Code), Status: info.Status, Detail: e.Text, Code: string(e.Code), Retryable: e.Retryable || info.Retryable,
		RetryAfterMS: e.RetryAfter.Milliseconds(), TraceID: e.Trace,
	}
	if own, is := ownCodes[e.Code]; is {
		p.Status = own
	}
	if e.Code == dispatch.Draining && p.RetryAfterMS == 0 {
		p.RetryAfterMS = drainRetry.Milliseconds()
	}
	p.Title = http.StatusText(p.Status)
	for _, fe := range e.Fields {
		p.Errors = append(p.Errors, fieldError{fe.Field, fe.Reason, fe.Value, fe.Limit})
	}
	return p
}

func (f *Face) problem(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err, csapi.IsAdmin(CallerOf(r.Context())))
	p.Instance = r.URL.Path
	if sc := trace.SpanContextFromContext(r.Context()); sc.IsValid() {
		p.TraceID = sc.TraceID().String()
	}
	if p.Status >= http.StatusInternalServerError && p.Code == string(dispatch.Internal) {
		f.env.Logger.ErrorContext(r.Context(), "native: request failed", "path", r.URL.Path, "err", err, "trace", p.TraceID)
	}
	if p.RetryAfterMS > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(float64(p.RetryAfterMS)/1000))))
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="drover"`)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	writeJSON(w, p.Status, p)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // nothing of ours fails to encode
		status, b = http.StatusInternalServerError, []byte(`{"type":"urn:drover:problem:internal","title":"Internal Server Error","status":500,"code":"internal","retryable":false}`)
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}
