package csapi

import (
	"context"

	"github.com/drover-cloud/drover/dispatch"
)

// api describes a command. All members are always present: CloudMonkey asserts their types unchecked.
type api struct {
	Name        string     `json:"name"`
	Description string     `json:"description"`
	Async       bool       `json:"isasync"`
	Since       string     `json:"since"`
	Related     string     `json:"related"`
	Params      []apiParam `json:"params"`
	Response    []apiField `json:"response"`
}

type apiParam struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Required    bool   `json:"required"`
	Description string `json:"description"`
	Length      int64  `json:"length"`
	Related     string `json:"related"`
}

type apiField struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Description string `json:"description"`
}

// ObjectName is the key of a list of them.
func (api) ObjectName() string { return "api" }

type listApis struct {
	Name string `param:"name" doc:"of one command"`
}

func (f *Face) apis(ctx context.Context, c listApis) (dispatch.Page[api], error) {
	var all []api
	for _, info := range f.cfg.Registry.Catalog(ctx, dispatch.Caller(ctx)) {
		if c.Name == "" || c.Name == info.Name {
			all = append(all, describe(info))
		}
	}
	if c.Name != "" && len(all) == 0 {
		return dispatch.Page[api]{}, BadParam("name", dispatch.NotOneOf, c.Name, "a command you may use")
	}
	return dispatch.Page[api]{Items: all, Total: len(all)}, nil
}

func describe(info dispatch.CommandInfo) api {
	a := api{Name: info.Name, Description: info.Doc, Async: info.Async, Since: info.Since, Params: []apiParam{}, Response: []apiField{}}
	for _, p := range info.Params {
		length := p.Max
		if p.Type != "string" || length == 0 {
			length = 255
		}
		a.Params = append(a.Params, apiParam{Name: p.Name, Type: p.Type, Required: p.Required, Description: p.Doc, Length: length})
	}
	if info.Async {
		a.Params = append(a.Params, apiParam{Name: "customjobid", Type: "uuid", Description: "id of the job; the same request again gets the first answer", Length: 255})
	}
	fields := info.Response
	if len(fields) == 1 && len(fields[0].Fields) > 0 { // the one object of a job's result
		fields = fields[0].Fields
	}
	for _, x := range fields {
		a.Response = append(a.Response, apiField{Name: x.Name, Type: x.Type, Description: x.Doc})
	}
	return a
}
