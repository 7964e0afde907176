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
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.inject.AbstractModule;
import com.google.inject.Guice;
import com.google.inject.matcher.Matchers;
import io.lockstep.bridge.sidecar.RoutedSidecar;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.reflect.Proxy;
import java.nio.file.Path;
import java.util.TreeMap;
import javax.servlet.Filter;
import javax.servlet.FilterChain;
import javax.servlet.FilterConfig;
import javax.servlet.ServletException;
import javax.servlet.ServletOutputStream;
import javax.servlet.ServletRequest;
import javax.servlet.ServletResponse;
import javax.servlet.WriteListener;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.aopalliance.intercept.MethodInterceptor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The reason of a failed update, for browsers and SSH. */
final class RefusalTest {
  private static final String ROUTE = "PUT /v1/projects/p";
  private static final String REASON =
      "the role of site b is standby; write to <a>, which is active";

  @TempDir Path folder;
  private RoutedSidecar routes;
  private Sidecar sidecar;

  @BeforeEach
  void start() throws IOException {
    routes = new RoutedSidecar(folder);
    routes.on(
        ROUTE,
        "503 {\"code\":\"not_serving\",\"message\":\"%s\",\"retry\":false}".formatted(REASON));
    sidecar = routes.client();
  }

  @AfterEach
  void stop() {
    routes.close();
  }

  /** An update that is refused, as the first login of a user is. */
  private void refused() {
    assertThrows(SidecarException.class, () -> sidecar.createProject("p", "refs/heads/main"));
  }

  /** A filter that is created by Guice. */
  static class Guarded implements Filter {
    @Override
    public void init(FilterConfig config) {}

    @Override
    public void doFilter(ServletRequest request, ServletResponse response, FilterChain chain)
        throws IOException, ServletException {
      chain.doFilter(request, response);
    }

    @Override
    public void destroy() {}
  }

  private <T> T intercepted(Class<T> type, MethodInterceptor interceptor) {
    AbstractModule module =
        new AbstractModule() {
          @Override
          protected void configure() {
            bind(Sidecar.class).toInstance(sidecar);
            requestInjection(interceptor);
            bindInterceptor(Matchers.only(type), Matchers.any(), interceptor);
          }
        };
    return Guice.createInjector(module).getInstance(type);
  }

  /** The answer to a request whose servlet is this chain. */
  private TreeMap<String, String> ask(String accept, FilterChain servlet) throws Exception {
    HttpServletRequest request =
        (HttpServletRequest)
            Proxy.newProxyInstance(
                getClass().getClassLoader(),
                new Class<?>[] {HttpServletRequest.class},
                (proxy, method, arguments) -> accept);
    Recorded recorded = new Recorded();
    HttpServletResponse response =
        (HttpServletResponse)
            Proxy.newProxyInstance(
                getClass().getClassLoader(),
                new Class<?>[] {HttpServletResponse.class},
                (proxy, method, arguments) -> recorded.take(method.getName(), arguments));
    intercepted(Guarded.class, new RefusalPage()).doFilter(request, response, servlet);
    recorded.seen.put("body", recorded.body.toString(UTF_8));
    return recorded.seen;
  }

  /** Records the calls of a response, each with its last argument. */
  private static final class Recorded {
    final TreeMap<String, String> seen = new TreeMap<>();
    final ByteArrayOutputStream body = new ByteArrayOutputStream();

    Object take(String method, Object[] arguments) {
      if (method.equals("getOutputStream")) {
        return stream();
      }
      if (method.equals("isCommitted")) {
        return false;
      }
      seen.put(method, arguments == null ? "" : String.valueOf(arguments[arguments.length - 1]));
      return null;
    }

    private ServletOutputStream stream() {
      return new ServletOutputStream() {
        @Override
        public void write(int one) {
          body.write(one);
        }

        @Override
        public boolean isReady() {
          return true;
        }

        @Override
        public void setWriteListener(WriteListener listener) {}
      };
    }
  }

  @Test
  void aLoginThatIsRefusedEndsWithAPageThatNamesTheActiveSite() throws Exception {
    for (boolean throwing : new boolean[] {true, false}) {
      TreeMap<String, String> answer =
          ask(
              "text/html,*/*",
              (request, response) -> {
                refused();
                if (throwing) {
                  throw new IllegalStateException("no account");
                }
                ((HttpServletResponse) response).sendError(403);
              });
      assertEquals("503", answer.get("setStatus"), answer.toString());
      assertTrue(answer.get("body").contains("write to &lt;a&gt;, which is active"));
      assertTrue(answer.get("body").contains("another name or e-mail address"));
      assertTrue(answer.get("body").contains("sign in at the active site once"));
    }
  }

  @Test
  void aProgramGetsTheReasonAsText() throws Exception {
    TreeMap<String, String> answer =
        ask(
            "*/*",
            (request, response) -> {
              refused();
              ((HttpServletResponse) response).sendError(401, "who?");
            });
    assertEquals("text/plain;charset=UTF-8", answer.get("setContentType"));
    assertTrue(answer.get("body").startsWith("Lockstep: " + REASON), answer.toString());
  }

  @Test
  void otherErrorsAndAnswersAreLeftAlone() throws Exception {
    // The refusal of an earlier request on the same thread.
    refused();
    TreeMap<String, String> denied =
        ask("text/html", (request, response) -> ((HttpServletResponse) response).sendError(404));
    assertEquals("404", denied.get("sendError"));
    assertThrows(
        ServletException.class,
        () ->
            ask(
                "text/html",
                (request, response) -> {
                  throw new ServletException("x");
                }));
    TreeMap<String, String> rest =
        ask(
            "text/html",
            (request, response) -> {
              refused();
              ((HttpServletResponse) response).setStatus(503);
            });
    assertEquals("", rest.get("body"), "an answer that is no error of the servlet");
  }

  /** The shape of the SSH server's interfaces. */
  interface Command {
    void setErrorStream(java.io.OutputStream errors);

    void start(Runnable update) throws IOException;
  }

  /** The factory of commands. */
  interface CommandFactory {
    Command createCommand(String line) throws IOException;
  }

  /** Creates commands that fail as Gerrit's do. */
  static class Provider {
    CommandFactory get() {
      return line -> {
        if (line.isEmpty()) {
          throw new IOException("no command");
        }
        return new Failing(line);
      };
    }
  }

  private static final class Failing implements Command {
    private final String text;
    private java.io.OutputStream errors;

    Failing(String text) {
      this.text = text;
    }

    @Override
    public void setErrorStream(java.io.OutputStream stream) {
      errors = stream;
    }

    @Override
    public void start(Runnable update) throws IOException {
      update.run();
      errors.write(text.getBytes(UTF_8));
      errors.write("more".getBytes(UTF_8));
    }
  }

  @Test
  void anErrorOverSshIsFollowedByTheReasonUnlessItSaysIt() throws Exception {
    CommandFactory factory = intercepted(Provider.class, new RefusalOverSsh()).get();
    assertThrows(IOException.class, () -> factory.createCommand(""));
    refused();
    String added = "fatal: Lockstep: " + REASON + "\n";
    assertEquals("internal error\n" + added + "more", run(factory, "internal error\n", true));
    assertEquals("unavailable\n" + added + "more", run(factory, "unavailable", true));
    assertEquals("Lockstep: x\nmore", run(factory, "Lockstep: x\n", true));
    assertEquals("internal error\nmore", run(factory, "internal error\n", false));
  }

  /** The errors of a command that reports this text, after an update that was refused or not. */
  private String run(CommandFactory factory, String text, boolean isRefused) throws Exception {
    ByteArrayOutputStream errors = new ByteArrayOutputStream();
    Command command = factory.createCommand(text);
    command.setErrorStream(errors);
    command.start(isRefused ? this::refused : () -> {});
    return errors.toString(UTF_8);
  }
}
