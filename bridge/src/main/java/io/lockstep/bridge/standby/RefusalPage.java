// Copyright (C) 2026 The Lockstep Authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

package io.lockstep.bridge.standby;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.common.base.Strings;
import com.google.common.html.HtmlEscapers;
import com.google.inject.Inject;
import io.lockstep.bridge.sidecar.Sidecar;
import java.io.IOException;
import java.util.Optional;
import javax.servlet.ServletException;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import javax.servlet.http.HttpServletResponseWrapper;
import org.aopalliance.intercept.MethodInterceptor;
import org.aopalliance.intercept.MethodInvocation;

/**
 * Ends a web request with a page that says why its update failed. Without it, Gerrit answers a
 * login that would have to create an account with an internal error.
 *
 * <p>REST calls have their own answers, which are left as they are: they set a status, and do not
 * end with an error of the servlet.
 */
final class RefusalPage implements MethodInterceptor {
  private static final String TITLE = "This server could not save something";
  private static final String ADVICE =
      "Signing in for the first time creates an account, and signing in with another name or e-mail"
          + " address changes it. Both need a site that takes writes: sign in at the active site"
          + " once, and your account is known here from then on.";

  @Inject private Sidecar sidecar;

  @Override
  public Object invoke(MethodInvocation call) throws Throwable {
    Object[] arguments = call.getArguments();
    if (!(arguments[0] instanceof HttpServletRequest request)
        || !(arguments[1] instanceof HttpServletResponse response)) {
      return call.proceed();
    }
    Answer answer = new Answer(request, response, sidecar);
    arguments[1] = answer;
    try {
      return call.proceed();
    } catch (ServletException | IOException | RuntimeException e) {
      if (!answer.isExplained()) {
        throw e;
      }
      return null;
    }
  }

  /** An answer whose errors are replaced by the page, if an update failed in this request. */
  private static final class Answer extends HttpServletResponseWrapper {
    private final HttpServletRequest request;
    private final Sidecar sidecar;
    private final long start = System.nanoTime();

    Answer(HttpServletRequest request, HttpServletResponse response, Sidecar sidecar) {
      super(response);
      this.request = request;
      this.sidecar = sidecar;
    }

    @Override
    public void sendError(int status) throws IOException {
      if (!isExplained()) {
        super.sendError(status);
      }
    }

    @Override
    public void sendError(int status, String message) throws IOException {
      if (!isExplained()) {
        super.sendError(status, message);
      }
    }

    /** Writes the page if an update failed. Returns whether it was written. */
    boolean isExplained() throws IOException {
      if (isCommitted()) {
        return false;
      }
      Optional<String> reason = sidecar.takeFailureOfThread(start);
      if (reason.isEmpty()) {
        return false;
      }
      reset();
      boolean isBrowser = Strings.nullToEmpty(request.getHeader("Accept")).contains("text/html");
      byte[] page = (isBrowser ? html(reason.get()) : text(reason.get())).getBytes(UTF_8);
      setStatus(SC_SERVICE_UNAVAILABLE);
      setHeader("Cache-Control", "no-store");
      setContentType((isBrowser ? "text/html" : "text/plain") + ";charset=UTF-8");
      setContentLength(page.length);
      getOutputStream().write(page);
      return true;
    }
  }

  private static String text(String reason) {
    return reason + "\n" + ADVICE + "\n";
  }

  private static String html(String reason) {
    return """
    <!DOCTYPE html>
    <html><head><meta charset="utf-8"><title>%1$s</title></head>
    <body><h1>%1$s</h1><p>%2$s</p><p>%3$s</p></body></html>
    """
        .formatted(TITLE, HtmlEscapers.htmlEscaper().escape(reason), ADVICE);
  }
}
