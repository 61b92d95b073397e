package strictjson

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	o, err := Read([]byte(" {\"a\":\"x\",\"A\":\"y\",\"n\":null,\"o\":{\"b\":1e400},\"t\":[[1],{\"a\":2}]} \r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := o.Text("a"); s != "x" || err != nil {
		t.Errorf("a: %q, %v", s, err)
	}
	for _, name := range []string{"n", "none"} {
		if s, err := o.Text(name); s != "" || err != nil {
			t.Errorf("%s: %q, %v", name, s, err)
		}
		if inner, err := o.Object(name); len(inner) != 0 || err != nil {
			t.Errorf("%s: %q, %v", name, inner, err)
		}
	}
	if inner, err := o.Object("o"); err != nil || string(inner["b"]) != "1e400" {
		t.Errorf("o: %q, %v", inner, err)
	}
	if _, err := o.Text("o"); err == nil {
		t.Error("an object is taken for a string")
	}
	if _, err := o.Object("a"); err == nil {
		t.Error("a string is taken for an object")
	}
}

func TestReadRefuses(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"nothing":          {"", "empty"},
		"spaces":           {"  ", "empty"},
		"string":           {`"x"`, "not a JSON object"},
		"array":            {`[{}]`, "not a JSON object"},
		"null":             {`null`, "not a JSON object"},
		"two":              {`{}{}`, "after"},
		"more":             {`{} x`, "after"},
		"closing":          {`{}}`, "after"},
		"NUL":              {"{}\x00", "after"},
		"cut":              {`{"a":`, "cut short"},
		"comma":            {`{"a":1,}`, "byte"},
		"no colon":         {`{"a" 1}`, "byte"},
		"number as name":   {`{1:1}`, "byte"},
		"single quotes":    {`{'a':1}`, "byte"},
		"comment":          {`{/**/}`, "byte"},
		"leading zero":     {`{"a":01}`, "byte"},
		"NaN":              {`{"a":NaN}`, "byte"},
		"control":          {"{\"a\":\"\x01\"}", "byte"},
		"not UTF-8":        {"{\"a\":\"\xff\"}", "UTF-8"},
		"BOM":              {"\ufeff{}", "byte"},
		"twice":            {`{"a":1,"a":1}`, `"a" twice`},
		"twice, escaped":   {`{"a":1,"\u0061":1}`, `"a" twice`},
		"twice, inside":    {`{"x":[{"a":1,"b":[],"a":1}]}`, `"a" twice`},
		"twice, long":      {`{"` + strings.Repeat("s", 50) + `":1,"` + strings.Repeat("s", 50) + `":1}`, "a name twice"},
		"deep":             {`{"a":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + `}`, "deeper"},
		"deep, unclosed":   {`{"a":` + strings.Repeat(`{"a":`, 3000), "deeper"},
		"wrong, inside":    {`{"a":{"b":tru}}`, "byte"},
		"brackets crossed": {`{"a":[}]`, "byte"},
	} {
		o, err := Read([]byte(c.in))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want an error with %q", name, o, err, c.want)
		}
	}
	deepest := `{"a":` + strings.Repeat("[", MaxDepth-1) + strings.Repeat("]", MaxDepth-1) + `}`
	if _, err := Read([]byte(deepest)); err != nil {
		t.Errorf("at the limit of depth: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"a":"x","b":{"c":[1,null,true]}}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Add([]byte(`{"a":[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		o, err := Read(in)
		var any map[string]any
		if e := json.Unmarshal(in, &any); err == nil && e != nil && !strings.Contains(e.Error(), "number") {
			t.Errorf("%q is taken, but %v", in, e)
		}
		if err != nil && o != nil {
			t.Error("an object and an error")
		}
		for name := range o {
			_, _ = o.Text(name)
			_, _ = o.Object(name)
		}
	})
}
