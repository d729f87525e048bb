package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// problem is an answer by RFC 9457.
type problem struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	Status  int    `json:"status"`
	Detail  string `json:"detail,omitempty"`
	Code    string `json:"code"`
	Current any    `json:"current,omitempty"` // the object as it is now

	answer http.Handler // of an Auth that answers itself
}

func (p *problem) Error() string { return p.Code + ": " + p.Detail }

func (p *problem) write(w http.ResponseWriter) {
	p.Type, p.Title = "urn:drover:problem:"+p.Code, http.StatusText(p.Status)
	b, err := json.Marshal(p)
	if err != nil {
		b = []byte(`{"type":"urn:drover:problem:internal","title":"Internal Server Error","status":500,"code":"internal"}`)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(b)
}

func bad(detail string) *problem {
	return &problem{Status: http.StatusBadRequest, Code: "invalid", Detail: detail}
}

func notFound(what string) *problem {
	return &problem{Status: http.StatusNotFound, Code: "not-found", Detail: what + " is not there"}
}

// problemOf says what an error of a component means to the caller.
func problemOf(err error) *problem {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, job.ErrNotFound), errors.Is(err, store.ErrNotFound):
		return &problem{Status: http.StatusNotFound, Code: "not-found", Detail: err.Error()}
	case errors.Is(err, job.ErrFinished), errors.Is(err, job.ErrNotCancellable):
		return &problem{Status: http.StatusConflict, Code: "wrong-state", Detail: err.Error()}
	case errors.Is(err, store.ErrConflict):
		return &problem{Status: http.StatusConflict, Code: "conflict", Detail: err.Error()}
	case errors.Is(err, job.ErrDraining), errors.Is(err, job.ErrOverloaded):
		return &problem{Status: http.StatusServiceUnavailable, Code: "unavailable", Detail: err.Error()}
	case errors.Is(err, job.ErrInvalid), errors.Is(err, syncqueue.ErrInvalid), errors.Is(err, job.ErrTooLarge):
		return bad(err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &problem{Status: http.StatusServiceUnavailable, Code: "unavailable", Detail: "the store did not answer in time"}
	}
	return &problem{Status: http.StatusInternalServerError, Code: "internal", Detail: "the log tells more"}
}
