package csapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/drover-cloud/drover/dispatch"
)

// Time is an instant as CloudStack writes it: 2006-01-02T15:04:05-0700, in UTC.
type Time time.Time

const timeLayout = "2006-01-02T15:04:05-0700"

// MarshalJSON writes the layout.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(`"` + time.Time(t).UTC().Format(timeLayout) + `"`), nil
}

// IsZero makes omitzero work.
func (t Time) IsZero() bool { return time.Time(t).IsZero() }

// Pending is embedded in objects that show their unfinished job in lists.
type Pending struct {
	JobID     string `json:"jobid,omitempty"`
	JobStatus *int   `json:"jobstatus,omitempty"`
}

// SetPending names the job.
func (p *Pending) SetPending(id string) {
	p.JobID, p.JobStatus = id, new(int)
}

// failure is the body of every refusal.
type failure struct {
	UUIDList    []string `json:"uuidList"`
	ErrorCode   int      `json:"errorcode"`
	CSErrorCode int      `json:"cserrorcode"`
	ErrorText   string   `json:"errortext"`
	Type        string   `json:"type"`
	Retryable   bool     `json:"retryable"`
	TraceID     string   `json:"traceid"`
}

// fail makes any error the body of an envelope.
func (f *Face) fail(err error, admin bool, trace string) failure {
	e := dispatch.Public(err, admin)
	info := e.Code.Info()
	out := failure{
		UUIDList: []string{}, ErrorCode: info.ErrorCode, CSErrorCode: info.CSErrorCode, ErrorText: text(e),
		Type: "urn:drover:problem:" + string(e.Code), Retryable: info.Retryable, TraceID: trace,
	}
	switch {
	case e.Code == errMethod.Code:
		out.ErrorCode, out.CSErrorCode = http.StatusMethodNotAllowed, 9999
	case len(e.Fields) > 0 && e.Fields[0].Reason == dispatch.Missing:
		out.CSErrorCode = 9999
	}
	return out
}

// text has the words that clients look for.
func text(e *dispatch.Error) string {
	var fe *dispatch.FieldError
	switch {
	case !errors.As(e, &fe):
		return e.Text
	case fe.Reason == dispatch.NoSuchEntity, fe.Reason == dispatch.BadType && strings.Contains(fe.Limit, "UUID"):
		return fmt.Sprintf("Unable to execute API command due to invalid value. Invalid parameter %s value=%s "+
			"due to incorrect long value format, or entity does not exist", fe.Field, fe.Value)
	case fe.Reason == dispatch.Missing && fe.Limit == "":
		return "Unable to execute API command due to missing parameter " + fe.Field
	}
	return e.Text
}

// envelopeKey is the one key of an answer.
func (f *Face) envelopeKey(command string, status int) string {
	if status == 432 || f.commands()[command].Mode == "" {
		return "errorresponse"
	}
	return strings.ToLower(command) + "response"
}

// write sends the envelope.
func write(w http.ResponseWriter, status int, key string, body any) {
	data, err := json.Marshal(map[string]any{key: body})
	if err != nil { // nothing of ours fails to encode
		status, data = 530, []byte(`{"errorresponse":{"uuidList":[],"errorcode":530,"cserrorcode":4250,"errortext":"internal error"}}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=UTF-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client may be gone
}

// header makes a text fit for a header: its first line, in printable ASCII.
func header(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, line)
}

// named is what lists call their objects.
type named interface{ ObjectName() string }

// page makes CloudStack's list of a dispatch.Page: nothing for none, else the count of all matches and those of this page.
func page(answer any) (map[string]any, bool) {
	v := reflect.ValueOf(answer)
	if v.Kind() != reflect.Struct || !v.FieldByName("Items").IsValid() || !v.FieldByName("Total").IsValid() {
		return nil, false
	}
	items, total := v.FieldByName("Items"), v.FieldByName("Total").Int()
	jobs, _ := v.FieldByName("Jobs").Interface().(map[string]dispatch.PendingJob)
	out := map[string]any{}
	if total > 0 {
		out["count"] = total
	}
	if items.Len() == 0 {
		return out, true
	}
	list := reflect.MakeSlice(items.Type(), items.Len(), items.Len()) // the answer is not ours to change
	reflect.Copy(list, items)
	for i := range list.Len() {
		item := list.Index(i).Addr().Interface()
		about, ok := item.(interface{ Resource() string })
		if !ok {
			break
		}
		if j, live := jobs[about.Resource()]; live {
			if p, ok := item.(interface{ SetPending(id string) }); ok {
				p.SetPending(j.JobID)
			}
		}
	}
	if n, ok := list.Index(0).Interface().(named); ok {
		out[n.ObjectName()] = list.Interface()
	}
	return out, true
}
