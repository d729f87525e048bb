package csapi

import (
	"fmt"

	"github.com/drover-cloud/drover/dispatch"
)

const maxPage = 500

// Paging is embedded in list commands.
type Paging struct {
	Page *int64 `param:"page" doc:"from 1; needs pagesize"`
	Size *int64 `param:"pagesize" doc:"at most 500; -1 = all, without page"`
}

// Validate checks the pair.
func (p Paging) Validate() error {
	unlimited := p.Size != nil && *p.Size == -1
	switch {
	case p.Page != nil && p.Size == nil:
		return BadParam("pagesize", dispatch.Missing, "", `parameter pagesize is required when page is given: missing parameter pagesize`)
	case p.Page == nil && p.Size != nil && !unlimited:
		return BadParam("page", dispatch.Missing, "", `parameter page is required when pagesize is given: missing parameter page`)
	case p.Page != nil && unlimited:
		return BadParam("page", dispatch.OutOfRange, fmt.Sprint(*p.Page), "no page with pagesize -1, which is all")
	case p.Size != nil && *p.Size > maxPage:
		return BadParam("pagesize", dispatch.OutOfRange, fmt.Sprint(*p.Size), "at most 500")
	case p.Size != nil && *p.Size < 1 && !unlimited:
		return BadParam("pagesize", dispatch.OutOfRange, fmt.Sprint(*p.Size), "1 to 500, or -1")
	}
	return nil
}

// BadParam is the refusal of one parameter; reason is one of dispatch's.
func BadParam(param, reason, value, want string) error {
	fe := &dispatch.FieldError{Field: param, Reason: reason, Value: cut(value), Limit: want}
	e := &dispatch.Error{Code: dispatch.Invalid, Text: fe.Error(), Fields: []*dispatch.FieldError{fe}}
	switch reason {
	case dispatch.NoSuchEntity:
		e.Code = dispatch.NotFound
	case dispatch.Missing:
		e.Text = want
	}
	return e
}

// Window is the part of a list asked for; limit 0 = to the end.
func (p Paging) Window() (offset, limit int) {
	switch {
	case p.Size == nil:
		return 0, maxPage
	case *p.Size == -1:
		return 0, 0
	}
	n := int64(1)
	if p.Page != nil {
		n = min(max(1, *p.Page), 1<<31)
	}
	return int((n - 1) * *p.Size), int(*p.Size)
}

// PageOf cuts the window out of all matches.
func PageOf[R any](p Paging, all []R) dispatch.Page[R] {
	offset, limit := p.Window()
	out := dispatch.Page[R]{Total: len(all)}
	if offset >= len(all) {
		return out
	}
	out.Items = all[offset:]
	if limit > 0 && limit < len(out.Items) {
		out.Items = out.Items[:limit]
	}
	return out
}
