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
		return missing("pagesize", `parameter pagesize is required when page is given: missing parameter pagesize`)
	case p.Page == nil && p.Size != nil && !unlimited:
		return missing("page", `parameter page is required when pagesize is given: missing parameter page`)
	case p.Page != nil && unlimited:
		return bad("page", fmt.Sprint(*p.Page), "no page with pagesize -1, which is all")
	case p.Size != nil && *p.Size > maxPage:
		return bad("pagesize", fmt.Sprint(*p.Size), "at most 500")
	case p.Size != nil && *p.Size < 1 && !unlimited:
		return bad("pagesize", fmt.Sprint(*p.Size), "1 to 500, or -1")
	}
	return nil
}

func bad(param, value, want string) error {
	fe := &dispatch.FieldError{Field: param, Reason: dispatch.OutOfRange, Value: value, Limit: want}
	return &dispatch.Error{Code: dispatch.Invalid, Text: fe.Error(), Fields: []*dispatch.FieldError{fe}}
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
