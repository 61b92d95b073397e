package proto_test

import _ "github.com/stretchr/testify/assert"
