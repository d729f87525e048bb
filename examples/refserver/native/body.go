package native

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/drover-cloud/drover/dispatch"
)

const maxBody = 1 << 20

// bodyParams reads a command's parameters from a JSON object; no body is an empty one.
func bodyParams(w http.ResponseWriter, r *http.Request, info dispatch.CommandInfo) (map[string]string, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		return nil, dispatch.Errorf(dispatch.TooLarge, "a body of more than 1 MiB")
	case err != nil:
		return nil, dispatch.Errorf(dispatch.Malformed, "the body could not be read")
	}
	if mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); (err != nil || mt != "application/json") && (len(body) > 0 || r.Header.Get("Content-Type") != "") {
		return nil, &dispatch.Error{Code: "media-type", Text: "the body must be application/json"}
	}
	if len(strings.TrimSpace(string(body))) == 0 {
		return map[string]string{}, nil
	}
	var members map[string]any
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	if err := d.Decode(&members); err != nil || members == nil {
		return nil, dispatch.Errorf(dispatch.Malformed, "the body is no JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, dispatch.Errorf(dispatch.Malformed, "there is something behind the JSON object")
	}
	out := flat{params: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if err := out.add(name, members[name], paramOf(info, name)); err != nil {
			return nil, err
		}
	}
	return out.params, nil
}

func paramOf(info dispatch.CommandInfo, name string) dispatch.ParamInfo {
	i := slices.IndexFunc(info.Params, func(p dispatch.ParamInfo) bool {
		return strings.EqualFold(p.Name, name) || slices.ContainsFunc(p.Aliases, func(a string) bool { return strings.EqualFold(a, name) })
	})
	if i < 0 {
		return dispatch.ParamInfo{}
	}
	return info.Params[i]
}

// flat turns JSON into the parameters that dispatch reads.
type flat struct{ params map[string]string }

func (f flat) add(name string, v any, p dispatch.ParamInfo) error {
	if strings.ContainsAny(name, "[]") {
		return dispatch.Errorf(dispatch.Malformed, "malformed parameter %.64q: structures are JSON here", name)
	}
	switch x := v.(type) {
	case nil:
		return nil
	case map[string]any:
		if len(p.Fields) > 0 {
			return f.object(name, 0, x)
		}
		for i, k := range slices.Sorted(maps.Keys(x)) {
			text, err := scalar(name, x[k])
			if err != nil {
				return err
			}
			at := name + "[" + strconv.Itoa(i) + "]."
			f.params[at+"key"], f.params[at+"value"] = k, text
		}
		return nil
	case []any:
		return f.list(name, x)
	}
	text, err := scalar(name, v)
	f.params[name] = text
	return err
}

func (f flat) list(name string, list []any) error {
	var parts []string
	for i, e := range list {
		if o, is := e.(map[string]any); is {
			if err := f.object(name, i, o); err != nil {
				return err
			}
			continue
		}
		text, err := scalar(name, e)
		if err != nil {
			return err
		}
		if strings.Contains(text, ",") {
			return dispatch.Errorf(dispatch.Malformed, "malformed parameter %.64q: an element with a comma", name)
		}
		parts = append(parts, text)
	}
	if len(parts) > 0 || len(list) == 0 {
		f.params[name] = strings.Join(parts, ",")
	}
	return nil
}

func (f flat) object(name string, i int, o map[string]any) error {
	for _, k := range slices.Sorted(maps.Keys(o)) {
		if o[k] == nil {
			continue
		}
		v := o[k]
		if list, is := v.([]any); is {
			inner := flat{params: map[string]string{}}
			if err := inner.list(k, list); err != nil {
				return err
			}
			v = inner.params[k]
		}
		text, err := scalar(name+"."+k, v)
		if err != nil {
			return err
		}
		f.params[name+"["+strconv.Itoa(i)+"]."+k] = text
	}
	return nil
}

func scalar(name string, v any) (string, error) {
	switch x := v.(type) {
	case string:
		return x, nil
	case json.Number:
		return x.String(), nil
	case bool:
		return strconv.FormatBool(x), nil
	}
	return "", dispatch.Errorf(dispatch.Malformed, "malformed parameter %.64q: nested too deep", name)
}

// credentials are the parameters of a query that are no part of a command.
var credentials = []string{"apikey", "signature", "signatureversion", "expires"}

// queryParams reads a command's parameters from a query. A name that comes twice is refused.
func queryParams(q url.Values) (map[string]string, error) {
	params := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if slices.Contains(credentials, strings.ToLower(name)) {
			continue
		}
		if len(q[name]) > 1 {
			return nil, dispatch.Errorf(dispatch.Malformed, "malformed parameter %.64q: given twice", name)
		}
		params[name] = q[name][0]
	}
	return params, nil
}
