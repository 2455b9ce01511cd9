"""WebTest, imported without the warning of a library below it.

WebOb imports ``cgi``, deprecated since Python 3.11 and gone in 3.13, where the
package legacy-cgi stands in. To go when WebOb no longer needs it
(https://github.com/Pylons/webob/issues/437).
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "'cgi' is deprecated", DeprecationWarning)
    from webtest import TestApp, TestResponse, lint
    from webtest.http import StopableWSGIServer

__all__ = ["StopableWSGIServer", "TestApp", "TestResponse", "lint"]
